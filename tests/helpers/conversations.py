"""Conversations of a few words, in which a reply follows from what the user says."""

import json

from algpt2.config.chat_records import ChatRecordOptions
from algpt2.preparation.chat_records import make_chat_tfrecords

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
COLOURS = ("red", "green", "blue", "white", "black", "brown")


def message(role, content):
    return {"role": role, "content": content}


def exchanges():
    """Yields for each number and colour what a user says and the reply, which names the next number."""
    for place, number in enumerate(NUMBERS):
        for colour in COLOURS:
            following = NUMBERS[(place + 1) % len(NUMBERS)]
            yield f"{number} {colour}", f"{following} {colour}"


def conversations():
    """Returns a conversation for each exchange; every third has a system's message, and every fifth goes on."""
    found = []
    for place, (prompt, reply) in enumerate(exchanges()):
        messages = [message("user", prompt), message("assistant", reply)]
        if place % 3 == 0:
            messages.insert(0, message("system", "count up"))
        if place % 5 == 0:
            messages += [message("user", "thanks"), message("assistant", "welcome")]
        found.append(messages)
    return found


def write_conversations(path, found=None):
    """Writes conversations as JSON lines; returns the file's path as a text."""
    lines = [json.dumps({"messages": messages}) for messages in found or conversations()]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def make_records(output, conversations_file, tokenizer_folder, **options):
    """Returns the counts of chat records of 64 targets, made of a file."""
    options = ChatRecordOptions(**{"seq_len": 64, "val_fraction": 0.2, **options})
    return make_chat_tfrecords([conversations_file], tokenizer_folder, str(output), options)
