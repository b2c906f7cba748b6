"""Tables and figures, made from result.json files only."""
