"""Documents to a folder of records: encoded, split, shuffled, packed, written."""
