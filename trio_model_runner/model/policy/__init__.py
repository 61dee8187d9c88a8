"""What counts against a model, and what is reported: all of it is decided here, and nowhere else.

A report stops a person's model and tells the person why. So it must be about what that model did: a false
report is worse than none. The other rooms say what happened, and this room says what it means. Read in this
order:

1. `facts` turns what happened to a call, or at a Setup, into an `Outcome`. `outcomes` has the table `RULES`,
   which says what each outcome means: its status, such as TIMEOUT, and what it counts.
2. `record` counts the outcomes of one model, and says what follows: a report, a PING to find out
   whether the connection is dead, calls that skip the model.
3. `reports` has the pending reports about all models of a cluster. After a minute each is sent, or it is held
   (never sent) if too many came together.

There is no I/O here, no clock, no connection and no model: only tables, counts, and functions without
effects. `cluster.reporting` has the clock, and sends what is released.
"""

from .facts import (
    OUTCOME_OF_A_VALUE,
    OVERSLEPT,
    Fact,
    Progress,
    is_about_the_connection,
    is_busy,
    is_our_deadline,
    is_unknown_method,
    may_still_run,
    must_be_set_up_again,
    outcome_of_answer,
    outcome_of_cut_off,
    outcome_of_distrust,
    outcome_of_fact,
    outcome_of_grpc_error,
    outcome_of_interruption,
    outcome_of_proof,
    outcome_of_setup,
    outcome_of_setup_error,
    outcome_of_unreachable,
    outcome_of_value,
    tried_again_when_held,
)
from .outcomes import RULES, Counts, Outcome, Rule, is_coordinators, succeeded, tried_again
from .record import Consequence, Record, may_ask_with_ping, report_after_call, report_after_ping
from .reports import Decision, PendingReport, PendingReports, may_be_sent

__all__ = [
    "OUTCOME_OF_A_VALUE",
    "OVERSLEPT",
    "RULES",
    "Consequence",
    "Counts",
    "Decision",
    "Fact",
    "Outcome",
    "PendingReport",
    "PendingReports",
    "Progress",
    "Record",
    "Rule",
    "is_about_the_connection",
    "is_busy",
    "is_coordinators",
    "is_our_deadline",
    "is_unknown_method",
    "may_ask_with_ping",
    "may_be_sent",
    "may_still_run",
    "must_be_set_up_again",
    "outcome_of_answer",
    "outcome_of_cut_off",
    "outcome_of_distrust",
    "outcome_of_fact",
    "outcome_of_grpc_error",
    "outcome_of_interruption",
    "outcome_of_proof",
    "outcome_of_setup",
    "outcome_of_setup_error",
    "outcome_of_unreachable",
    "outcome_of_value",
    "report_after_call",
    "report_after_ping",
    "succeeded",
    "tried_again",
    "tried_again_when_held",
]
