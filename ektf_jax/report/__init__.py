"""Tables and figures, made from result.json files only, but for the last three modules.

results     result.json -> Run
names       what datasets, models and methods are called
seeds       runs that differ in their seed only; means, deviations, t-tests
tables      tables as data; all runs, cost
figures     the style of figures; the overview; files
render      content -> Markdown
web         content -> HTML
page        a report of all runs, written
paper/      what the paper has: its names, tables, figures and findings
scaling/    what a study over K has: curves, tests, cost, diversity
run_page    a page about one run
judged      a figure of predictions beside what happened
description a page about an encoded dataset
"""
