"""Results for people and programs: the JSON document, the table, the page."""
