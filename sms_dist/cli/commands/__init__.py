"""The verbs of the `sms-dist` command, one file each; what is heavy is imported when they run."""
