"""What a user may want of a text."""

TASKS = (
    "Summarise the text in a few sentences.\n\n{text}",
    "{text}\n\nWrite a short summary of this.",
    "{text}\n\nWhat does the text say? Answer in one sentence.",
    "Sum up the most important points of the following passage as a list.\n\n{text}",
    "Here is a report:\n\n{text}\n\nShorten it to about 60 words.",
    "Passage: {text}\n\nQuestion: What is the passage mainly about?\nAnswer:",
    "Use only what this page says.\n\nPage: {text}\n\nWhich facts does it give?",
    "Source 1: {text}\n\nWhat is the reason, according to the source? Quote it.",
    "{text}\n\nAnswer from the text above, and quote it: who or what is described, and how?",
    "{text}\n\nWrite three short questions about this text, each with its answer.",
    "Rewrite the following so that a child understands it:\n\n{text}",
    "Correct the mistakes in this text and return it otherwise unchanged.\n\n{text}",
    "Translate the following text to French.\n\n{text}",
    "Translate this to German:\n\n{text}",
    "Translate into Spanish, then back into English:\n\n{text}",
    "List every name, place and number in this text.\n\n{text}",
)
"""Each with {text} in it. Answers to most of them repeat what they were given."""
