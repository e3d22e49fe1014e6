use super::*;

/// What a fault of the third column's value says of its place.
fn place(text: &str) -> String {
    let mut table = Table::new("f.csv", text);
    let column = table.column("c");
    while let Some(row) = table.next_row() {
        table.number(&row, column, 0..=9);
    }
    let fault = table.finish(()).unwrap_err().remove(0);
    format!("{}:{}", fault.line, fault.column)
}

#[test]
fn a_fault_has_the_line_and_column_of_its_field_whatever_stands_before_it() {
    let table = [
        ("a,b,c\n1,2,x\n", "2:5"),
        ("a,b,c\n1,2,  x\n", "2:7"),
        ("\u{feff}a,b,c\r\n\r\n1,2,3\r\n\n  \n1,2,x", "6:5"),
        ("a,b,c\né,\u{1f600},x\n", "2:5"),
        ("a,b,c\n\"1\",\"2,2\",x\n", "2:11"),
        ("a,b,c\n\"1\"\"\"\"\",\"\",\"x\"\n", "2:12"),
        ("a,b,c\n5\" pipe,2,x\n", "2:11"),
        ("a,b,c\n\"two\nlines\",2,x\n", "3:10"),
        ("a,b,c\n\"two\nlines\",2,3\n\n1,2,x\n", "5:5"),
        ("a,b,c\n1,2,\n", "2:5"),
    ];
    for (text, expected) in table {
        assert_eq!(place(text), expected, "{text:?}");
    }
}

#[test]
fn quotes_hold_commas_and_quotes() {
    let mut table = Table::new("f.csv", "A,\"the b\",c\n \"1\" ,\"x,\"\"y\"\"\", z \n");
    let columns = ["a", "the b", "c"].map(|name| table.column(name));
    let row = table.next_row().unwrap();
    assert_eq!(columns.map(|column| table.field(&row, column).unwrap().to_owned()), ["1", "x,\"y\"", "z"]);
    assert!(table.next_row().is_none());
    assert_eq!(table.finish(()), Ok(()));
}

#[test]
fn a_quote_that_is_not_closed_is_said() {
    let mut table = Table::new("f.csv", "a,b\n1,2\n\"1,2\n3,4\n");
    while table.next_whole_row().is_some() {}
    let faults = table.finish(()).unwrap_err();
    assert_eq!(
        faults[0].to_string(),
        "f.csv:3:1: the row has 1 field, the first line 2; close the quote that opens in this line"
    );
    assert_eq!(faults.len(), 1);
}

#[test]
fn a_column_that_is_missing_or_there_twice_is_said_with_the_first_line() {
    let mut table = Table::new("f.csv", "a, b,B\n1,2,3\n");
    assert_eq!(["a", "b", "c"].map(|name| table.column(name)), [Some(0), None, None]);
    assert_eq!(table.optional_column("d"), None);
    let faults: Vec<_> = table.finish(()).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            "f.csv:1:6: column `b` is there twice; remove one of the two",
            "f.csv:1:1: column `c` is missing; name it in the first line, which is `a, b,B`",
        ]
    );
}

#[test]
fn faults_beyond_the_limit_are_counted() {
    let mut table = Table::new("f.csv", "a\n");
    for line in 0..MAX_SHOWN_FAULTS + 9 {
        table.fault(Place { line, column: 1 }, "wrong".to_owned(), "mend it");
    }
    let faults = table.finish(()).unwrap_err();
    assert_eq!(faults.len(), MAX_SHOWN_FAULTS + 1);
    assert!(faults.last().unwrap().message.contains("9 more faults are not shown"));
}
