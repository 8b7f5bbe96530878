"""Reports: from the records of finished runs to tables, curves, a page to listen to. Reads files only, loads no network."""
