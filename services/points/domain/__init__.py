"""The rules of points (RULES 5), pure: no I/O, no clock, no randomness, no wire format.

* `definitions`: what an administrator configures: systems, triggers, levels.
* `state`: what is known of one user: the award ledger's live part, balances, how far each trigger has
  counted.
* `triggers`: how often each trigger is due because of an entry, or no longer is.
* `ledger`: what a system's dues do to its ledger: limits, refusal, reversal, level.
* `decisions`: one entry applied or undone, from the above.
"""
