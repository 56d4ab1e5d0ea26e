"""The response to leaks: looks tokens up in the token store, disables them, records incidents and queues
notifications.
"""
