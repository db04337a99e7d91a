"""TFRecords: how a record and a folder of them is stored, checked and counted, and the batches that training gets."""
