//! The rules can fail: each fault that is put into the code on purpose is found within a few seeds, by the rule that is
//! there for it.

use millstream_simulation::{Mutation, Rule, run};

/// Seeds within which a fault must be found.
const NUM_SEEDS: u64 = 400;

/// The first seeds break one of the rules.
fn is_caught(mutation: Mutation, rules: &[Rule]) {
    for seed in 0..NUM_SEEDS {
        if let Err(violation) = run(seed, mutation) {
            assert!(rules.contains(&violation.rule), "found by another rule, {violation}");
            return;
        }
    }
    panic!("{mutation:?} went unnoticed in {NUM_SEEDS} seeds");
}

#[test]
fn a_worker_that_obeys_older_terms_is_caught() {
    is_caught(Mutation::WorkerObeysOlderTerms, &[Rule::NoOlderTermObeyed]);
}

#[test]
fn an_ingress_that_confirms_before_it_applies_is_caught() {
    is_caught(Mutation::IngressConfirmsFirst, &[Rule::RoutesKept, Rule::StopsAfterRoutes]);
}

#[test]
fn an_ingress_that_forgets_requests_is_caught() {
    is_caught(Mutation::IngressForgetsOnRetry, &[Rule::AnsweredOnce]);
}

#[test]
fn an_ingress_that_answers_twice_is_caught() {
    is_caught(Mutation::IngressKeepsLateRequests, &[Rule::AnsweredOnce]);
}

#[test]
fn a_head_that_books_shares_twice_is_caught() {
    is_caught(Mutation::HeadBooksSharesTwice, &[Rule::NodeNotOverbooked, Rule::BooksNotOverbooked]);
}

#[test]
fn a_head_that_stops_replicas_at_once_is_caught() {
    is_caught(Mutation::HeadStopsAtOnce, &[Rule::StopsAfterRoutes, Rule::EnoughServe]);
}

#[test]
fn a_head_that_keeps_its_term_is_caught() {
    is_caught(Mutation::HeadKeepsItsTerm, &[Rule::EpochsGrow]);
}

#[test]
fn a_head_that_takes_starting_replicas_for_ready_is_caught() {
    is_caught(Mutation::HeadTakesStartingForReady, &[Rule::EnoughServe]);
}

#[test]
fn a_head_that_shares_more_than_all_requests_is_caught() {
    is_caught(Mutation::HeadSharesMoreThanAll, &[Rule::WholeOfRequests]);
}

#[test]
fn a_head_that_names_the_stopped_is_caught() {
    is_caught(Mutation::HeadNamesTheStopped, &[Rule::StoppedNotNamed]);
}

#[test]
fn a_head_that_panics_is_caught() {
    is_caught(Mutation::HeadPanics, &[Rule::NoPanic]);
}

#[test]
fn an_ingress_that_loses_routes_is_caught() {
    // A canary that gets no requests is not convicted either.
    is_caught(Mutation::IngressLosesRoutes, &[Rule::NoneFails, Rule::TurnedBadIsConvicted]);
}

#[test]
fn a_head_that_overlooks_reports_is_caught() {
    is_caught(Mutation::HeadOverlooksReports, &[Rule::NothingOverlooked]);
}

#[test]
fn a_head_that_routes_the_convicted_is_caught() {
    is_caught(Mutation::HeadRoutesTheConvicted, &[Rule::ConvictedNotRouted]);
}

#[test]
fn an_ingress_that_asks_replicas_that_cannot_answer_is_caught() {
    is_caught(Mutation::IngressAsksAnybody, &[Rule::AbleAreAsked]);
}

#[test]
fn a_head_that_counts_old_answers_is_caught() {
    is_caught(Mutation::HeadCountsOldAnswers, &[Rule::TurnedBadIsConvicted]);
}

#[test]
fn a_head_that_forgets_cordons_is_caught() {
    is_caught(Mutation::HeadForgetsCordons, &[Rule::CordonedGetNothing]);
}

#[test]
fn a_head_that_forgets_to_stop_replicas_is_caught() {
    is_caught(Mutation::HeadForgetsToStop, &[Rule::Converges]);
}
