"""Analysis: reads what runs left behind and compares them; trains nothing and loads no weights."""
