"""Other people's training steps beside ours: `python -m bench peers --repo CHECKOUT`.

An adapter drives the code of a checkout that the user has, unchanged on the disk; none of that code is kept here.
"""
