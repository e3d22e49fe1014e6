mod random;

use millstream_values::{DType, Tensor};

use super::*;

fn request() -> Value {
    Value::map([
        ("question", Value::from("why?")),
        ("documents", Value::list(["a", "bb", "ccc"].map(Value::from))),
        ("top_k", Value::Int(2)),
        ("ratio", Value::Float(0.5)),
        ("extra", Value::map([("deep", Value::list([Value::map([("x", Value::Int(7))])]))])),
        ("top-n", Value::Int(9)),
    ])
}

fn request_type() -> Type {
    Type::map([
        ("question", Type::Text),
        ("documents", Type::list(Type::Text)),
        ("top_k", Type::Int),
        ("ratio", Type::Float),
        ("extra", Type::Any),
        ("top-n", Type::Int),
    ])
}

fn scope() -> Scope {
    let mut scope = Scope::new(request_type());
    scope.add_stage("vectors", 0, Type::tensor(DType::F32, [None, None]));
    scope.add_stage("ranked", 1, crate::types::ranked(Type::Text));
    scope.add_stage("skipped", 2, crate::types::ranked(Type::Text).optional());
    scope.add_stage("my-stage", 3, Type::Text);
    scope.with_item("d", Type::Text)
}

fn stages() -> Vec<Value> {
    let vectors = Tensor::from_f32([3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let ranked = Value::map([
        ("items", Value::list(["x", "y"].map(Value::from))),
        ("scores", Value::list([Value::Float(0.9), Value::Float(0.1)])),
        ("indices", Value::list([Value::Int(1), Value::Int(0)])),
    ]);
    vec![Value::Tensor(vectors), ranked, Value::None, Value::from("mine")]
}

fn eval(source: &str) -> Result<Value, EvalError> {
    let (request, stages, item) = (request(), stages(), Value::from("doc"));
    let expression =
        Expression::compile(source, &scope()).unwrap_or_else(|fault| panic!("{source}: {fault}"));
    expression.eval(&Env { request: &request, stages: &stages, item: Some(&item) })
}

fn render(source: &str) -> Result<String, EvalError> {
    let (request, stages, item) = (request(), stages(), Value::from("doc"));
    let template = Template::compile(source, &scope()).unwrap_or_else(|fault| panic!("{source}: {fault}"));
    template.render(&Env { request: &request, stages: &stages, item: Some(&item) })
}

fn texts<const N: usize>(items: [&str; N]) -> Value {
    Value::list(items.map(Value::from))
}

fn ints<const N: usize>(items: [i64; N]) -> Value {
    Value::list(items.map(Value::Int))
}

#[test]
fn expressions_give_exact_values() {
    for (source, expected) in [
        ("request.question", Value::from("why?")),
        ("request['question']", Value::from("why?")),
        ("request['top-n']", Value::Int(9)),
        ("d", Value::from("doc")),
        ("my-stage", Value::from("mine")),
        ("my-stage ~ '!'", Value::from("mine!")),
        ("request.documents[-1]", Value::from("ccc")),
        ("request.documents[request.top_k - 1]", Value::from("bb")),
        ("request.documents[1:]", texts(["bb", "ccc"])),
        ("request.documents[:request.top_k]", texts(["a", "bb"])),
        ("request.documents[::-1]", texts(["ccc", "bb", "a"])),
        ("[request.question] + request.documents", texts(["why?", "a", "bb", "ccc"])),
        ("request.extra.deep[0].x", Value::Int(7)),
        ("ranked.items", texts(["x", "y"])),
        ("ranked.items[0] + '!'", Value::from("x!")),
        ("request.top_k + 1", Value::Int(3)),
        ("request.top_k * 1.5", Value::Float(3.0)),
        ("7 / 2", Value::Float(3.5)),
        ("-7 // 2", Value::Int(-4)),
        ("-7 % 3", Value::Int(2)),
        ("2 ** 10", Value::Int(1024)),
        ("2 ** -1", Value::Float(0.5)),
        ("-request.top_k", Value::Int(-2)),
        ("9223372036854775807", Value::Int(i64::MAX)),
        ("'ab' * 2", Value::from("abab")),
        ("[1] * 3", ints([1, 1, 1])),
        ("1 < request.top_k <= 2", Value::Bool(true)),
        ("1 == 1.0", Value::Bool(true)),
        ("'h' in request.question", Value::Bool(true)),
        ("'zz' not in request.documents", Value::Bool(true)),
        ("request.top_k > 1 and 'yes'", Value::from("yes")),
        ("'' or request.question", Value::from("why?")),
        ("not request.documents", Value::Bool(false)),
        ("'many' if request.top_k > 1 else 'one'", Value::from("many")),
        ("'x' if false", Value::None),
        ("request.documents|length", Value::Int(3)),
        ("request.documents|join(', ')", Value::from("a, bb, ccc")),
        ("request.documents|map('upper')|list", texts(["A", "BB", "CCC"])),
        ("request.documents|select('eq', 'bb')|list", texts(["bb"])),
        ("request.extra.deep|map(attribute='x')|list", ints([7])),
        ("request.question|upper|replace('?', '!')", Value::from("WHY!")),
        ("ranked.scores|max", Value::Float(0.9)),
        (
            "{'a': request.top_k, 'b': [1, 'x']}",
            Value::map([("a", Value::Int(2)), ("b", Value::list([Value::Int(1), Value::from("x")]))]),
        ),
        ("{'a': 1}|tojson", Value::from("{\"a\": 1}")),
        ("request.extra.nothing|default('none there')", Value::from("none there")),
        ("[]|first|default('none there')", Value::from("none there")),
        ("request.extra.nothing is defined", Value::Bool(false)),
        ("skipped is none", Value::Bool(true)),
        ("skipped.items|default(ranked.items)", texts(["x", "y"])),
        ("(skipped or ranked).items", texts(["x", "y"])),
        ("request.top_k is even", Value::Bool(true)),
        ("range(3)", ints([0, 1, 2])),
        ("range(5, 0, -2)", ints([5, 3, 1])),
        ("vectors|length", Value::Int(3)),
        ("vectors[0][1]", Value::Float(2.0)),
    ] {
        assert_eq!(eval(source), Ok(expected), "{source}");
    }
}

#[test]
fn tensors_stay_views_of_the_same_bytes() {
    let (request, stages) = (request(), stages());
    let env = Env { request: &request, stages: &stages, item: None };
    let whole = stages[0].as_tensor().unwrap().data().as_ptr();
    for (source, shape, offset) in [
        ("vectors[0]", vec![2], 0),
        ("vectors[-1]", vec![2], 16),
        ("vectors[1:]", vec![2, 2], 8),
        ("vectors[request.top_k - 1]", vec![2], 8),
        ("vectors[1:] if request.top_k > 1 else vectors", vec![2, 2], 8),
        ("[vectors[1:]][0]", vec![2, 2], 8),
        ("[vectors]|first", vec![3, 2], 0),
        ("[1, vectors[1:]]|last", vec![2, 2], 8),
    ] {
        let found = Expression::compile(source, &scope()).unwrap().eval(&env).unwrap();
        let tensor = found.as_tensor().unwrap_or_else(|| panic!("{source} gives a {}", found.type_name()));
        assert_eq!(tensor.shape(), shape, "{source}");
        assert_eq!(tensor.data().as_ptr() as usize - whole as usize, offset, "{source}");
    }
}

#[test]
fn lists_and_texts_are_shared() {
    let (request, stages) = (request(), stages());
    let env = Env { request: &request, stages: &stages, item: None };
    for source in ["request.documents", "request.documents|list", "request.documents if true else []"] {
        let found = Expression::compile(source, &scope()).unwrap().eval(&env).unwrap();
        let original = request.get("documents").unwrap().as_list().unwrap();
        assert_eq!(found.as_list().unwrap().as_ptr(), original.as_ptr(), "{source}");
    }
    let joined = Expression::compile("['x'] + request.documents", &scope()).unwrap().eval(&env).unwrap();
    let original = request.get("documents").unwrap().as_list().unwrap()[0].as_text().unwrap();
    assert_eq!(joined.as_list().unwrap()[1].as_text().unwrap().as_ptr(), original.as_ptr());
}

#[test]
fn types_are_inferred() {
    for (source, expected) in [
        ("request.question", "text"),
        ("request.documents[0]", "text"),
        ("request.documents[1:]", "text[]"),
        ("[request.question] + request.documents", "text[]"),
        ("[1, 2.5]", "float[]"),
        ("vectors[0]", "f32[?]"),
        ("vectors[1:]", "f32[?,?]"),
        ("vectors[0][0]", "float"),
        ("vectors[request.top_k]", "f32[?]"),
        ("ranked", "{indices, items, scores}"),
        ("skipped", "{indices, items, scores} or none"),
        ("(skipped or ranked).items", "text[]"),
        ("skipped.items", "text[]"),
        ("request.extra.anything", "json"),
        ("request.top_k / 2", "float"),
        ("request.top_k + request.ratio", "float"),
        ("request.top_k > 1", "bool"),
        ("request.question ~ 1", "text"),
        ("request.documents|length", "int"),
        ("request.documents|first", "text"),
        ("1 if true else 'x'", "int or text"),
        ("1 if true", "int or none"),
        ("request.extra.x|default(1)", "json"),
        ("d", "text"),
    ] {
        let expression =
            Expression::compile(source, &scope()).unwrap_or_else(|fault| panic!("{source}: {fault}"));
        assert_eq!(expression.ty().to_string(), expected, "{source}");
    }
}

#[test]
fn faults_point_at_the_text_and_say_what_to_do() {
    for (source, place, message, help) in [
        (
            "request.question + request.documents",
            "request.question + request.documents",
            "`+` does not work between `text` and `text[]`",
            "put the text into a list first",
        ),
        (
            "1 + vectors",
            "1 + vectors",
            "`+` does not work between `int` and `f32[?,?]`",
            "only index and slice",
        ),
        ("[requst.question]", "requst", "`requst` is not known here", "did you mean `request`?"),
        ("request.questoin", "questoin", "there is no `questoin` in", "did you mean `question`?"),
        ("ranked.foo", "foo", "there is no `foo` in", "it has `indices`, `items`, `scores`"),
        ("request.top", "top", "`top` is not the whole name", "[\"top-n\"]"),
        ("request.documents.first", "first", "a list has no `first`", "|map(attribute"),
        ("request.question|uper", "uper", "there is no filter `uper`", "did you mean `upper`?"),
        ("request.question is evn", "evn", "there is no test `evn`", "did you mean `even`?"),
        ("request.question.upper()", "request.question.upper()", "`upper` is called", "`|upper`"),
        ("nothing()", "nothing()", "there is no such function", "range"),
        ("vectors|upper", "upper", "`upper` does not work on `f32[?,?]`", "a tensor has"),
        ("request.documents|upper", "upper", "takes a text, not `text[]`", "|map(\"upper\")"),
        ("request.top_k[0]", "0", "`int` has no elements", "index a list"),
        (
            "request.top_k < request.question",
            "request.top_k < request.question",
            "`<` does not work",
            "both sides",
        ),
        ("request.", ".", "", ""),
        ("", "", "an empty expression", "write a value"),
        ("(1", "1", "", ""),
        ("loop.index", "loop", "`loop` has a meaning only", "{% for %}"),
        ("{d: 1}", "d", "must be a text literal", "in quotes"),
        ("99999999999999999999", "99999999999999999999", "does not fit 64 bits", "smaller"),
    ] {
        let fault = Expression::compile(source, &scope()).expect_err(source);
        assert_eq!(&source[fault.range.clone()], place, "{source}: {fault}");
        assert!(fault.message.contains(message), "{source}: {fault}");
        assert!(fault.help.contains(help), "{source}: {fault}");
    }
}

#[test]
fn bad_data_is_an_error_without_contents() {
    for (source, message) in [
        ("request.extra.nothing", "`request.extra.nothing` has no value"),
        ("request.extra.nothing.more", "`request.extra.nothing.more` has no value: there is no `nothing`"),
        ("skipped.items", "`skipped.items` has no value"),
        ("request.documents[9]", "`request.documents[9]` has no value"),
        ("request.top_k // 0", "a division by 0"),
        ("request.top_k + 9223372036854775807", "a whole number does not fit 64 bits"),
        ("request.extra + 1", "`+` between map and int"),
        ("request.extra.deep < 1", "`<` between list and int"),
        ("request.documents|first|int", "`int` of a text: invalid operation"),
        ("[]|first", "`first` finds nothing"),
    ] {
        let error = eval(source).expect_err(source);
        assert_eq!(error.message, message, "{source}");
        assert_eq!(error.class, ErrorClass::Invalid, "{source}");
    }
}

#[test]
fn evaluation_is_bounded() {
    for source in [
        "range(1000000000)",
        "range(0, 9223372036854775807)",
        "range(9223372036854775807, -9223372036854775807, -1)",
        "'x' * 1000000000000",
        "'x' * 9223372036854775807",
        "[1] * 100000000",
        "[[1] * 1000] * 1000 + [range(900000)] * 900000",
        "('x' * 10000000) ~ ('x' * 10000000) ~ ('x' * 10000000)",
        "('x' * 5000)|replace('x', 'y' * 5000)",
        "(['x' * 5000] * 5000)|join",
    ] {
        assert_eq!(eval(source).expect_err(source).class, ErrorClass::TooLarge, "{source}");
    }
    for source in [
        "{% for i in range(2000) %}{% for j in range(2000) %}{% endfor %}{% endfor %}",
        "{% for i in range(1000) %}{{ 'x' * 10000 }}{% endfor %}",
        "{% for i in range(100) %}{% set x %}{{ 'x' * 1000000 }}{% endset %}{% endfor %}",
        "{{ ('a\n' * 100000)|indent(1024) }}",
    ] {
        assert!(render(source).is_err(), "{source}");
    }
    // What is looked through counts, although nothing is made of it.
    for look in [
        "x|length",
        "x[7]",
        "x == y",
        "x < y",
        "'b' in x",
        "x is startingwith('b')",
        "[x]|select('equalto', y)|length",
        "[x, y]|unique|length",
        "([x] == [y])",
    ] {
        let source = format!(
            "{{% set x = 'a' * 2000000 %}}{{% set y = 'a' * 2000000 %}}{{% for i in range(1000) %}}{{{{ {look} }}}}{{% endfor %}}"
        );
        let error = render(&source).expect_err(look);
        assert_eq!(error.class, ErrorClass::TooLarge, "{look}: {}", error.message);
    }
}

#[test]
fn deep_nesting_is_a_fault_not_an_overflow() {
    let deep = |part: &str, count: usize, end: &str| format!("{}{end}", part.repeat(count));
    for source in [
        deep("not ", 100_000, "1"),
        deep("-", 100_000, "1"),
        deep("(", 100_000, "1"),
        deep("[", 100_000, "1"),
        deep("1 + ", 50_000, "1"),
        deep("1 if 1 else ", 20_000, "1"),
        format!("request{}", ".x".repeat(100_000)),
        format!("1{}", "|abs".repeat(50_000)),
        format!("1{}", " is odd".repeat(30_000)),
        "a".repeat(1 << 20),
        deep("not ", 150, "1"),
    ] {
        assert!(Expression::compile(&source, &scope()).is_err(), "{}", &source[..20]);
        assert!(references(&source, &["my-stage"]).is_err(), "{}", &source[..20]);
    }
    for source in [
        deep("{% if 1 %}", 20_000, ""),
        format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(15_000)),
        format!("{{% for {}x", "(".repeat(100_000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(60_000)),
    ] {
        assert!(Template::compile(&source, &scope()).is_err(), "{}", &source[..20]);
        assert!(template_references(&source, &[]).is_err(), "{}", &source[..20]);
    }
}

#[test]
fn templates_render() {
    for (source, expected) in [
        ("Question: {{ request.question }}", "Question: why?"),
        ("{% for d in ranked.items %}- {{ d }}\n{% endfor %}", "- x\n- y\n"),
        ("{% for d in [] %}x{% else %}nothing{% endfor %}", "nothing"),
        ("{% for k, v in {'a': 1, 'b': 2}|items %}{{ k }}={{ v }};{% endfor %}", "a=1;b=2;"),
        (
            "{% for d in request.documents if d != 'bb' %}{{ loop.index }}/{{ loop.length }}:{{ d }} {% endfor %}",
            "1/2:a 2/2:ccc ",
        ),
        ("{% for d in request.documents %}{{ d }}{{ ', ' if not loop.last }}{% endfor %}", "a, bb, cccNone"),
        (
            "{% for d in request.documents %}{{ d }}{% if not loop.last %}, {% endif %}{% endfor %}",
            "a, bb, ccc",
        ),
        ("{% for d in request.documents %}{{ loop.cycle('o', 'e') }}{% endfor %}", "oeo"),
        (
            "{% for a in [1, 2] %}{% for b in [1, 2] %}{{ loop.depth }}{{ a * b }} {% endfor %}{{ loop.index }} {% endfor %}",
            "21 22 1 22 24 2 ",
        ),
        ("{% if request.top_k > 5 %}a{% elif request.top_k > 1 %}b{% else %}c{% endif %}", "b"),
        ("{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}", "2"),
        ("{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}", "21"),
        ("{% set x, y = [1, 2] %}{{ x }}{{ y }}", "12"),
        ("{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}", "3"),
        ("{% set x %}  {{ d }} {% endset %}[{{ x|trim }}]", "[doc]"),
        ("{% set x | trim | upper %}  {{ d }} {% endset %}[{{ x }}]", "[DOC]"),
        ("{% filter upper %}{{ d }}{% endfilter %}", "DOC"),
        ("{% raw %}{{ x }}{% endraw %}{# comment #}", "{{ x }}"),
        ("a  {%- if true -%}  b  {%- endif -%}  c", "abc"),
        ("{{ request.extra }} {{ 1.0 }} {{ true }} {{ [1, 'a'] }}", "{'deep': [{'x': 7}]} 1.0 True [1, 'a']"),
        ("<{{ '<b>&' }}>", "<<b>&>"),
        ("{{ my-stage }} my-stage {{ 'my-stage' }}", "mine my-stage my-stage"),
        ("{{ vectors[0][0] }} {{ skipped }}", "1.0 None"),
        ("{{ skipped.items|default(['-'])|join }}", "-"),
    ] {
        assert_eq!(render(source).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn template_faults() {
    for (source, place, message) in [
        ("{{ vectors }}", "vectors", "is not written as text"),
        ("{% for d in request.top_k %}{% endfor %}", "request.top_k", "`int` has no elements"),
        ("x {{ nothing }}", "nothing", "`nothing` is not known here"),
        ("{% for x in [1] %}{% endfor %}{{ x }}", "x", "`x` is not known here"),
        ("{% macro m() %}{% endmacro %}", "macro m() %}{% endmacro", "`{% macro %}` is not supported"),
        ("{% include 'x' %}", "include 'x'", "`{% include %}` is not supported"),
        ("{% for d in ranked.items %}{{ d.x }}{% endfor %}", "x", "`text` has no `x`"),
    ] {
        let fault = Template::compile(source, &scope()).expect_err(source);
        assert_eq!(&source[fault.range.clone()], place, "{source}: {fault}");
        assert!(fault.message.contains(message), "{source}: {fault}");
    }
    for source in ["{% if %}", "{{", "{% endfor %}", "{{ 1 +", "{% for x in %}"] {
        assert!(Template::compile(source, &scope()).is_err(), "{source}");
    }
}

#[test]
fn names_are_found_before_types_are_known() {
    for (source, expected) in [
        ("request.a + vectors[i]", vec!["i", "request", "vectors"]),
        ("my-stage - 1", vec!["my-stage"]),
        ("my - stage", vec!["my", "stage"]),
        ("my-stages", vec!["my", "stages"]),
        ("x.my-stage", vec!["stage", "x"]),
        ("1 + 'my-stage'|length", vec![]),
    ] {
        let found: Vec<String> = references(source, &["my-stage"]).unwrap().into_iter().collect();
        assert_eq!(found, expected, "{source}");
    }
    let found = template_references(
        "{% for d in ranked.items %}{{ d }}{{ e }}{% endfor %}{% set q = x %}{{ q }}",
        &[],
    );
    assert_eq!(found.unwrap().into_iter().collect::<Vec<_>>(), ["e", "ranked", "x"]);
    let template = Template::compile("{{ ranked.items }}{{ request.question }}{{ d }}", &scope()).unwrap();
    let mut stages = BTreeSet::new();
    template.stages(&mut stages);
    assert_eq!(stages.into_iter().collect::<Vec<_>>(), [1]);
}

#[test]
fn constants_lists_and_maps_of_the_file() {
    let list = Expression::list(vec![
        Expression::constant(Value::Int(1)),
        Expression::compile("request.ratio", &scope()).unwrap(),
    ]);
    assert_eq!(list.ty().to_string(), "float[]");
    let map = Expression::map(vec![("a".into(), list)]);
    assert!(map.references().contains("request"));
    let request = request();
    let found = map.eval(&Env { request: &request, stages: &[], item: None }).unwrap();
    assert_eq!(found, Value::map([("a", Value::list([Value::Int(1), Value::Float(0.5)]))]));
}
