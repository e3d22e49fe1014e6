use super::*;

const HEADER: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n";

fn faults(text: &str) -> Vec<String> {
    Trace::parse("t.csv", text).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn requests_are_read_with_their_times_from_the_first_on() {
    let text = "\u{feff}TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n\
                2023-11-16 18:15:50.9951690,396,109\n\n2023-11-16T18:15:46Z,1,2\n";
    let trace = Trace::parse("t.csv", text).unwrap();
    let found: Vec<_> =
        trace.arrivals.iter().map(|a| (a.at.as_nanos(), a.prompt, a.generated, a.line)).collect();
    assert_eq!(found, [(0, 1, 2, 5), (680_590_000, 374, 44, 2), (4_995_169_000, 396, 109, 3)]);
}

#[test]
fn columns_may_stand_in_any_order_and_times_may_be_seconds() {
    let text = "id,generatedtokens,TIMESTAMP,ContextTokens\na,3,10,7\nb,4, 10.25 ,\"8\"\n";
    let trace = Trace::parse("t.csv", text).unwrap();
    let last = trace.arrivals[1];
    assert_eq!((last.at, last.prompt, last.generated), (Duration::from_millis(250), 8, 4));
}

#[test]
fn days_and_leap_days_count() {
    let at = |text: &str| timestamp(text).unwrap() / 1_000_000_000;
    assert_eq!(at("1970-01-01 00:00:00"), 0);
    assert_eq!(at("2000-03-01 00:00:00") - at("2000-02-28 23:59:59"), 86_401);
    assert_eq!(at("2100-03-01 00:00:00") - at("2100-02-28 00:00:00"), 86_400);
    assert_eq!(at("2023-11-16 18:15:46"), 1_700_158_546);
}

#[test]
fn all_faults_come_at_once_with_place_and_fix() {
    let text = format!("{HEADER}yesterday,1,2\n5,x,-3\n6,1\n2023-02-30 00:00:00,1,1\n7,1,1.5\n");
    assert_eq!(
        faults(&text),
        [
            "t.csv:2:1: `yesterday` is no time; write it as `2023-11-16 18:15:46.68`, or as seconds",
            "t.csv:3:3: `ContextTokens` is `x`, which is not a number of tokens; write a whole number from 0 on",
            "t.csv:3:5: `GeneratedTokens` is `-3`, which is not a number of tokens; write a whole number from 0 on",
            "t.csv:4:4: `GeneratedTokens` is missing: this line has 2 fields; fill the line up, or remove it",
            "t.csv:5:1: `2023-02-30 00:00:00` is no time; write it as `2023-11-16 18:15:46.68`, or as seconds",
            "t.csv:6:5: `GeneratedTokens` is `1.5`, which is not a number of tokens; write a whole number from 0 on",
        ]
    );
}

#[test]
fn a_header_that_is_wrong_and_a_trace_without_requests_are_said() {
    assert_eq!(faults("time,ContextTokens,ContextTokens,GeneratedTokens\n1,2,3,4\n").len(), 2);
    assert_eq!(faults("").len(), 3);
    assert!(faults(HEADER)[0].contains("there is no request in this trace"));
}

#[test]
fn many_faults_are_counted() {
    let text = format!("{HEADER}{}", "x,1,1\n".repeat(1000));
    let found = faults(&text);
    assert_eq!(found.len(), MAX_SHOWN_FAULTS + 1);
    assert!(found.last().unwrap().contains("950 more faults are not shown"));
}
