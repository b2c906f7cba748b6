"""Tables and figures, made from result.json files only, but for the last module.

results     result.json -> Run
names       what datasets, models and methods are called
seeds       runs that differ in their seed only; means, deviations, t-tests
tables      tables as data; all runs, cost
figures     the style of figures; the overview; files
render      content -> Markdown
web         content -> HTML
page        a report of all runs, written
paper/      what the paper has: its names, tables, figures and findings
description a page about an encoded dataset
"""
