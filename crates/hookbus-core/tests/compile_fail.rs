//! What the types refuse: an event that was not verified, and a plugin that is none.

#[test]
fn the_compiler_refuses_what_would_break_a_promise() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
