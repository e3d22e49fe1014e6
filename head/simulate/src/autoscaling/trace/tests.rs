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
            "t.csv:2:1: `yesterday` is not a time; write it as `2023-11-16 18:15:46.68`, or as seconds",
            "t.csv:3:3: `ContextTokens` is `x`; set it to a whole number from 0 to 4294967295",
            "t.csv:3:5: `GeneratedTokens` is `-3`; set it to a whole number from 0 to 4294967295",
            "t.csv:4:4: `GeneratedTokens` is missing: this row has 2 fields; fill the row up, or remove it",
            "t.csv:5:1: `2023-02-30 00:00:00` is not a time; write it as `2023-11-16 18:15:46.68`, or as seconds",
            "t.csv:6:5: `GeneratedTokens` is `1.5`; set it to a whole number from 0 to 4294967295",
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
fn times_by_table() {
    let second = NANOS_PER_SECOND;
    let table = [
        ("0", 0),
        ("10.25", 10 * second + 250_000_000),
        ("0.1234567891", 123_456_789),
        ("1970-01-01 00:00:00", 0),
        ("1970-01-02T00:00:60.5Z", 86_460 * second + 500_000_000),
        ("1970-1-2  1:2:3", (86_400 + 3_723) * second),
        ("1970-01-01 00:00:00.1234567891", 123_456_789),
        ("1969-12-31 23:59:59", -second),
        ("0001-01-01 00:00:00", -62_135_596_800 * second),
        ("9999-12-31 23:59:59", 253_402_300_799 * second),
    ];
    for (text, expected) in table {
        assert_eq!(timestamp(text), Some(expected), "{text}");
    }
    for bad in [
        "",
        "-1",
        "1e3",
        "1.",
        "2023-11-16",
        "2023-11-16 18:15",
        "2023-13-01 00:00:00",
        "2023-02-29 00:00:00",
        "2023-01-01 24:00:00",
        "2023-01-01 00:60:00",
        "2023-01-01 00:00:61",
        "2023-01-01 00:00:00+01:00",
        "é:1",
    ] {
        assert_eq!(timestamp(bad), None, "{bad}");
    }
}
