"""What a command's exit status says, beside 0 for done and 2 for wrong usage."""

# Refused, or something is wrong; a sentence says what.
WRONG = 1
# Copied, but the two sides differ.
DIFFERENT = 3
# Imported, except for records that were rejected.
REJECTED = 4
