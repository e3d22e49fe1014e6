use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use millstream_pipelines::Cache;
use millstream_proto::ErrorClass;
use proptest::prelude::*;
use tokio::task::JoinHandle;
use tokio::time::{Instant as Then, sleep, sleep_until};

use super::*;

const TTL: Duration = Duration::from_secs(100);

fn cache() -> Arc<StageCache> {
    cache_for(CacheScope::Key)
}

fn cache_for(scope: CacheScope) -> Arc<StageCache> {
    let settings = Cache { ttl: TTL, max_bytes: 1 << 20, scope };
    Arc::new(StageCache::new("p", &CachedStage { stage: "s".into(), target: 0, cache: settings }))
}

fn key(cache: &StageCache, number: i64) -> Fingerprint {
    cache.fingerprint(&"p/d".parse().unwrap(), 1, Tenant::ANONYMOUS, &Value::Int(number))
}

fn failure() -> CallError {
    CallError::started(ErrorClass::Unavailable, "gone")
}

fn fresh(number: i64) -> Fresh {
    Fresh { value: Value::Int(number), revision: Some(1) }
}

/// Counts calls, and finds those that are made twice at a time.
#[derive(Default)]
struct Calls {
    made: AtomicU64,
    ongoing: AtomicI64,
}

impl Calls {
    /// A call that takes that long; one that is dropped has ended.
    async fn make(&self, takes: Duration, result: Result<Fresh, CallError>) -> Result<Fresh, CallError> {
        struct Ongoing<'a>(&'a AtomicI64);
        impl Drop for Ongoing<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.made.fetch_add(1, Ordering::SeqCst);
        assert_eq!(self.ongoing.fetch_add(1, Ordering::SeqCst), 0, "two equal calls at a time");
        let _ongoing = Ongoing(&self.ongoing);
        sleep(takes).await;
        result
    }

    fn made(&self) -> u64 {
        self.made.load(Ordering::SeqCst)
    }
}

/// A request for answer 1, whose own call takes 100 ms if it is made.
fn request(
    cache: &Arc<StageCache>,
    calls: &Arc<Calls>,
    result: Result<Fresh, CallError>,
) -> JoinHandle<Result<Value, CallError>> {
    let (cache, calls) = (cache.clone(), calls.clone());
    tokio::spawn(async move {
        let call = || calls.make(Duration::from_millis(100), result);
        cache.answer(key(&cache, 1), call).await
    })
}

#[test]
fn answers_are_shared_across_keys_only_where_the_file_says_so() {
    let (deployment, inputs) = ("p/d".parse().unwrap(), Value::from("private"));
    for (scope, shared) in [(CacheScope::Key, false), (CacheScope::All, true)] {
        let cache = cache_for(scope);
        let of = |tenant| cache.fingerprint(&deployment, 1, Tenant(tenant), &inputs);
        assert_eq!(of(1), of(1));
        assert_eq!(of(0) == of(1), shared, "{scope:?}");
        assert_eq!(of(1) == of(2), shared, "{scope:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn equal_calls_at_one_time_are_made_once_and_their_answer_is_kept_for_its_time() {
    let (cache, calls) = (cache(), Arc::new(Calls::default()));
    let requests: Vec<_> = (0..50).map(|_| request(&cache, &calls, Ok(fresh(1)))).collect();
    for request in requests {
        assert_eq!(request.await.unwrap(), Ok(Value::Int(1)));
    }
    assert_eq!((calls.made(), cache.flights.num_open()), (1, 0));
    sleep(TTL - Duration::from_millis(1)).await;
    assert_eq!(request(&cache, &calls, Ok(fresh(2))).await.unwrap(), Ok(Value::Int(1)), "kept");
    sleep(Duration::from_millis(1)).await;
    assert_eq!(request(&cache, &calls, Ok(fresh(2))).await.unwrap(), Ok(Value::Int(2)), "over");
    assert_eq!(calls.made(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_shared_by_those_who_wait_for_it_and_by_nobody_after_them() {
    let (cache, calls) = (cache(), Arc::new(Calls::default()));
    let waiting: Vec<_> = (0..100).map(|_| request(&cache, &calls, Err(failure()))).collect();
    let begun = Then::now();
    for request in waiting {
        assert_eq!(request.await.unwrap(), Err(failure()));
    }
    assert_eq!((calls.made(), begun.elapsed()), (1, Duration::from_millis(100)));
    assert_eq!(request(&cache, &calls, Ok(fresh(7))).await.unwrap(), Ok(Value::Int(7)));
    assert_eq!((calls.made(), cache.flights.num_open()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_ends_by_its_own_time_or_before_it_began_leaves_its_turn_to_the_next() {
    for own in [
        CallError::started(ErrorClass::DeadlineExceeded, "its timeout"),
        CallError::not_started(ErrorClass::Overloaded, "its deadline would pass"),
    ] {
        let (cache, calls) = (cache(), Arc::new(Calls::default()));
        let first = request(&cache, &calls, Err(own.clone()));
        tokio::task::yield_now().await;
        let others: Vec<_> = (0..20).map(|_| request(&cache, &calls, Ok(fresh(7)))).collect();
        assert_eq!(first.await.unwrap(), Err(own));
        for other in others {
            assert_eq!(other.await.unwrap(), Ok(Value::Int(7)));
        }
        assert_eq!((calls.made(), cache.flights.num_open()), (2, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_takes_over_from_a_client_that_left() {
    let (cache, calls) = (cache(), Arc::new(Calls::default()));
    let first = request(&cache, &calls, Ok(fresh(1)));
    tokio::task::yield_now().await;
    let second = request(&cache, &calls, Ok(fresh(2)));
    let third = request(&cache, &calls, Ok(fresh(3)));
    sleep(Duration::from_millis(50)).await;
    // The one whose turn is next leaves at the same moment.
    first.abort();
    second.abort();
    assert_eq!(third.await.unwrap(), Ok(Value::Int(3)));
    assert!(calls.made() <= 3);
    let alone = request(&cache, &calls, Err(failure()));
    assert_eq!(alone.await.unwrap(), Ok(Value::Int(3)), "kept");
    assert_eq!(cache.flights.num_open(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_may_be_of_another_revision_goes_to_those_who_wait_and_is_not_kept() {
    let (cache, calls) = (cache(), Arc::new(Calls::default()));
    let unsure = |number| Ok(Fresh { revision: None, ..fresh(number) });
    let waiting: Vec<_> = (0..5).map(|_| request(&cache, &calls, unsure(1))).collect();
    for request in waiting {
        assert_eq!(request.await.unwrap(), Ok(Value::Int(1)));
    }
    assert_eq!(calls.made(), 1);
    assert_eq!(request(&cache, &calls, unsure(2)).await.unwrap(), Ok(Value::Int(2)));
    assert_eq!((calls.made(), cache.bytes()), (2, 0));
}

/// A client in the property test, times in milliseconds.
#[derive(Debug, Clone)]
struct Client {
    input: i64,
    comes_at: u64,
    leaves_after: Option<u64>,
    takes: u64,
    fails: bool,
}

fn any_client() -> impl Strategy<Value = Client> {
    let leaves = prop_oneof![Just(None), (0..30_u64).prop_map(Some)];
    (0..2_i64, 0..40_u64, leaves, 0..20_u64, any::<bool>()).prop_map(
        |(input, comes_at, leaves_after, takes, fails)| Client {
            input,
            comes_at,
            leaves_after,
            takes,
            fails,
        },
    )
}

/// Whoever stays is answered, by a failure or a value of its own input. Everything ends.
async fn all_are_answered(clients: Vec<Client>) {
    let cache = cache();
    let calls: Arc<HashMap<i64, Calls>> = Arc::new((0..2).map(|input| (input, Calls::default())).collect());
    let start = Then::now();
    let requests: Vec<_> = clients
        .iter()
        .cloned()
        .map(|client| {
            let (cache, calls) = (cache.clone(), calls.clone());
            tokio::spawn(async move {
                sleep_until(start + Duration::from_millis(client.comes_at)).await;
                let result = if client.fails { Err(failure()) } else { Ok(fresh(client.input)) };
                let call = || calls[&client.input].make(Duration::from_millis(client.takes), result);
                let answer = cache.answer(key(&cache, client.input), call);
                match client.leaves_after {
                    Some(after) => tokio::time::timeout(Duration::from_millis(after), answer).await.ok(),
                    None => Some(answer.await),
                }
            })
        })
        .collect();
    let mut succeeded = [false; 2];
    for (client, request) in clients.iter().zip(requests) {
        let answer = tokio::time::timeout(TTL, request).await.expect("nobody waits for ever").unwrap();
        match answer {
            None => assert!(client.leaves_after.is_some()),
            Some(Err(_)) => {
                let equal_ones_fail = clients.iter().any(|other| other.fails && other.input == client.input);
                assert!(equal_ones_fail, "failures of other calls are not ours");
            }
            Some(Ok(value)) => {
                assert_eq!(value, Value::Int(client.input));
                succeeded[usize::try_from(client.input).unwrap()] = true;
            }
        }
    }
    assert_eq!(cache.flights.num_open(), 0, "nothing is left behind");
    for (input, succeeded) in (0..).zip(succeeded) {
        assert_eq!(cache.store.get(&key(&cache, input), millstream_clock::now()).is_some(), succeeded);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn clients_that_come_fail_and_leave_at_any_time_are_all_answered(
        clients in prop::collection::vec(any_client(), 1..25),
    ) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap().block_on(all_are_answered(clients));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_threads_no_call_is_doubled_and_no_wake_up_is_lost() {
    for round in 0..100_u64 {
        let (cache, calls) = (cache(), Arc::new(Calls::default()));
        let requests: Vec<_> = (0..40_u64)
            .map(|number| {
                let (cache, calls) = (cache.clone(), calls.clone());
                tokio::spawn(async move {
                    // Most fail, so that turns go from one to the next.
                    let result = if (number + round) % 5 == 0 { Ok(fresh(1)) } else { Err(failure()) };
                    let call = || calls.make(Duration::from_micros(number % 3 * 50), result);
                    cache.answer(key(&cache, 1), call).await
                })
            })
            .collect();
        for (number, request) in requests.iter().enumerate() {
            if number % 3 == 0 {
                request.abort();
            }
        }
        for request in requests {
            let ended = tokio::time::timeout(Duration::from_secs(60), request);
            match ended.await.expect("nobody waits for ever") {
                Ok(Ok(value)) => assert_eq!(value, Value::Int(1)),
                Ok(Err(error)) => assert_eq!(error, failure()),
                Err(error) => assert!(error.is_cancelled(), "{error}"),
            }
        }
        assert_eq!((cache.flights.num_open(), calls.ongoing.load(Ordering::SeqCst)), (0, 0));
    }
}

async fn answer(flight: flights::Flight<'_>, number: i64) -> Result<Value, CallError> {
    flight.answer(|| async { Ok(Value::Int(number)) }).await
}

#[tokio::test]
async fn a_flight_is_over_with_its_answer_even_while_somebody_is_still_on_it() {
    let (flights, key) = (SingleFlight::default(), key(&cache(), 1));
    let slow = flights.join(key);
    assert_eq!(answer(flights.join(key), 1).await, Ok(Value::Int(1)));
    assert_eq!(answer(flights.join(key), 2).await, Ok(Value::Int(2)), "else its time would never be over");
    assert_eq!(answer(slow, 3).await, Ok(Value::Int(1)));
    assert_eq!(flights.num_open(), 0);
}
