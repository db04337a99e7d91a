"""Text in: documents of many kinds of files, and the tokenizer that turns them into ids and back."""
