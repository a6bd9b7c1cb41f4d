"""The `sms-dist` command: its verbs, and what they show."""
