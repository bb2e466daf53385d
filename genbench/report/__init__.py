"""`genbench-report`: one page, one Markdown file and two tables for machines out of many runs."""
