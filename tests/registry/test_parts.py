import pytest

from zoo.errors import PluginError
from zoo.registry import FreezePart, HeadPart, NoOptions, Part


@pytest.mark.parametrize("name", ["", "1st", "a b", "-a", "a/b"])
def test_a_part_has_a_plain_name(name):
    with pytest.raises(ValueError, match="is not a part name"):
        HeadPart(name, build="a:b")


def test_part_itself_is_abstract():
    with pytest.raises(TypeError, match="^Part is abstract"):
        Part("a", build="a:b")


def test_options_are_options():
    with pytest.raises(TypeError, match=r"^options of 'a' must be a class derived from zoo.registry.Options$"):
        HeadPart("a", build="a:b", options=dict)


def test_build_is_an_import_path():
    with pytest.raises(ValueError, match=r"^'a.b' is not an import path of the form 'package.module:function'$"):
        HeadPart("a", build="a.b", options=NoOptions)


def test_an_adapter_is_an_import_path_that_only_freeze_policies_have():
    with pytest.raises(ValueError, match=r"^'a.b' is not an import path of the form 'package.module:function'$"):
        FreezePart("a", build="a:b", adapter="a.b")
    assert FreezePart("a", build="a:b").build_adapter(NoOptions()) is None
    assert FreezePart("a", build="a:b", adapter="builtins:repr").build_adapter(NoOptions()) == "NoOptions()"


def test_a_builder_is_imported_when_asked_for():
    assert HeadPart("a", build="os.path:join").builder().__name__ == "join"


def test_a_builder_that_is_not_there_is_refused():
    with pytest.raises(PluginError) as caught:
        HeadPart("a", build="no_such_module:build").builder()
    assert str(caught.value) == (
        "head 'a' cannot be built: No module named 'no_such_module'\n"
        "  where: no_such_module:build\n"
        "  mend:  install what the plugin needs, or report this to its author"
    )
