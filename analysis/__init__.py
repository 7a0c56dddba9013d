"""Analysis: reads the records of runs and compares them; trains nothing and loads no weights."""
