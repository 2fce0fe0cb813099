from zoo.errors import Problem, RecipeError, ZooError, nearest


def test_an_error_says_what_where_and_how_to_mend_it():
    error = ZooError("no", where="here", hint="do that")
    assert str(error) == "no\n  where: here\n  mend:  do that"
    assert error.exit_code == 2


def test_an_error_holds_all_problems():
    error = RecipeError.of([Problem("one"), Problem("two", "there")])
    assert isinstance(error, RecipeError)
    assert str(error) == "one\ntwo\n  where: there"


def test_nearest_names_close_words_else_some_else_none():
    assert nearest("resnet5", ["resnet50", "vgg11"]) == "did you mean 'resnet50'?"
    assert nearest("zzz", ["a", "b"]) == "one of: a, b"
    assert nearest("x", []) == "there is none to choose from"
    assert nearest("?", [str(n) for n in range(100, 120)]).endswith("111, … (20 in all)")
