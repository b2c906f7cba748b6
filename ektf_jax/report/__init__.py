"""Tables and figures. Of many runs, from their result.json and metrics.jsonl files alone:

results     result.json -> Outcome
names       what datasets, models and methods are called
seeds       runs that differ in their seed only; means, deviations, t-tests
tables      tables as data; all runs, cost
figures     the style of figures; the overview; files
render      content -> Markdown
web         content -> HTML
page        a report of all runs, written
paper/      what the paper has: its names, tables, figures and findings
scaling/    what a study over K has: curves, tests, cost, diversity
searches    a page of searches side by side, from their search.json files too

And of one thing, from what its page is given:

run_page    a page about one run
tuned       a page about one search
judged      a figure of predictions beside what happened
description a page about an encoded dataset
"""
