"""The report of a study of ensembles over K: what grows with K, why, and what it costs.

curves      runs of one recipe by K; recipes that differ in one thing
tables      growth, tests, and what each point costs
figures     AUC over K and over cost; diversity and collapse over K
conclusion  what it comes to, in sentences
page        the report, written
"""
