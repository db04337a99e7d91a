"""From text to token ids, from token ids to TFRecords, from TFRecords to batches."""
