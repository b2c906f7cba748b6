import numpy as np

from ektf_jax.data import encoded, ipinyou


def test_validates_on_the_test_rows(tmp_path):
    header = ",".join(("click", *ipinyou.FIELDS))
    line = "{click},1,{hour},118.75.117.*,6,65,1,trqRTudNXqN8ggc4JKTI,3346409141,300,250,1,0,48f2,2259,7330,5"
    for name, count in (("train", 40), ("test", 15)):
        lines = [header, *(line.format(click=at % 2, hour=at % 5) for at in range(count))]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    schema = ipinyou.prepare(tmp_path, tmp_path / "out")
    assert (schema.dataset, schema.num_fields) == ("ipinyou", 16)
    assert schema.splits == {"train": 40, "valid": 15, "test": 15}
    valid, test = (encoded.open_split(tmp_path / "out", split) for split in ("valid", "test"))
    assert np.array_equal(valid.ids, test.ids)
    assert test.labels.tolist() == [at % 2 for at in range(15)]
    assert [field.vocab_size for field in schema.fields] == [3, 7] + [3] * 14
