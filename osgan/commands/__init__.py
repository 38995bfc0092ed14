"""The `osgan` command, a file for each of its commands, and what it shows and writes; nothing below imports it."""
