"""What counts against a model, and what is reported: all of it is decided here, and nowhere else.

A report stops a person's model and tells the person why. So it must be about what that model did: a false
report is worse than none, and a model that is broken must be reported all the same. The other rooms say what
happened, and this room says what it means. Read in this order:

1. `facts` turns what happened to a call, or at a Setup, into an `Outcome`. `outcomes` has the table `RULES`,
   which says what each outcome means: its status, such as TIMEOUT, and what it counts.
2. `judge` has the rules. A failure or a timeout counts only with a witness: `evidence`. What counts against
   one model is in its `record`. A call that was cut off may still run: `overrun`.
3. `reports` has the pending reports about all models of a cluster. After a minute each is sent, or it is held
   if the model is not alone with its trouble: `crowd`.

There is no I/O here, no clock, no connection and no model: only tables, counts, and functions without
effects. `cluster.reporting` has the clock, and sends what is released. `model.watch` asks nodes whether they
are through with a call.
"""

from .evidence import Form, Incident, RoundEvidence
from .facts import (
    NOT_SENT,
    OUTCOME_OF_A_VALUE,
    OVERSLEPT,
    Fact,
    Progress,
    cut_off_text,
    is_about_the_way,
    is_busy,
    is_our_deadline,
    is_unknown_method,
    may_still_run,
    must_be_set_up_again,
    must_connect_anew,
    outcome_of_absence,
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
from .judge import Judge
from .outcomes import RULES, Counts, Outcome, Rule, is_coordinators, succeeded, tried_again
from .overrun import Answer, Overrun, answer_of_code, answer_of_error
from .record import NEVER, SETUP, Limits, Record, Standing
from .reports import Decision, News, NewsKind, PendingReport, PendingReports, Stage, may_be_sent

__all__ = [
    "NEVER",
    "NOT_SENT",
    "OUTCOME_OF_A_VALUE",
    "OVERSLEPT",
    "RULES",
    "SETUP",
    "Answer",
    "Counts",
    "Decision",
    "Fact",
    "Form",
    "Incident",
    "Judge",
    "Limits",
    "News",
    "NewsKind",
    "Outcome",
    "Overrun",
    "PendingReport",
    "PendingReports",
    "Progress",
    "Record",
    "RoundEvidence",
    "Rule",
    "Stage",
    "Standing",
    "answer_of_code",
    "answer_of_error",
    "cut_off_text",
    "is_about_the_way",
    "is_busy",
    "is_coordinators",
    "is_our_deadline",
    "is_unknown_method",
    "may_be_sent",
    "may_still_run",
    "must_be_set_up_again",
    "must_connect_anew",
    "outcome_of_absence",
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
    "succeeded",
    "tried_again",
    "tried_again_when_held",
]
