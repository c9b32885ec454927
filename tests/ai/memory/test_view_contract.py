"""The contract of `aico.ai.memory.view.View`, kept by every view there is, each beside its real engine."""

import pytest

from tests.ai.memory.view_contract import CASES, SECRET, ViewCase, answers, fill, ids_of


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request) -> ViewCase:
    return request.param


@pytest.fixture
def vault(case, tmp_path):
    with case.open(tmp_path / "vault") as vault:
        yield vault


def test_every_view_of_a_vault_is_in_the_contract(vault):
    assert {view.name for view in vault.views} <= {case.name for case in CASES}


def test_a_view_in_use_has_read_everything_and_is_well(case, vault):
    fill(vault)
    view = case.of(vault)
    assert (view.lag(), view.trouble) == (0, "")


def test_erase_lets_go_at_once_of_what_it_is_given_though_the_view_lags(case, vault):
    ids = fill(vault)["nell"]
    nell, view = vault.users.find("nell"), case.of(vault)
    assert view.holds_any(nell, ids)
    for table in ("messages", "facts"):
        for id_ in ids_of(vault, "nell", table):
            vault.connection.execute(f"DELETE FROM {table} WHERE id = ?", (id_,))
    assert view.lag() > 0
    view.erase(nell, ids)
    assert not view.holds_any(nell, ids)
    view.catch_up()
    assert (view.lag(), view.holds_any(nell, ids)) == (0, False)


def test_erase_may_be_repeated_and_given_what_was_never_there(case, vault):
    ids = fill(vault)["nell"]
    nell, view = vault.users.find("nell"), case.of(vault)
    vault.memory.forget("nell", everything=True)
    for given in ([], [b"not a row of it!"], ids, ids):
        view.erase(nell, given)
    view.erase(b"nobody's id here", ids)
    assert not view.holds_any(nell, ids)


def test_what_another_process_forgot_is_gone_when_the_view_has_read_on(case, vault):
    """Another process's forget reaches this one as rows deleted in the truth, and no call of `erase`."""
    ids = fill(vault)["nell"]
    nell, view = vault.users.find("nell"), case.of(vault)
    with vault.connection.transaction():
        for table in ("messages", "facts"):
            vault.connection.execute(f"DELETE FROM {table} WHERE user_id = ? AND text LIKE '%parrot%'", (nell,))
    assert SECRET not in " ".join(answers(vault, "nell"))  # it reads on before it answers
    view.catch_up()
    assert (view.lag(), view.holds_any(nell, ids)) == (0, False)


@pytest.mark.parametrize("wish", [{"about": "parrots safe"}, {"conversation": "secret"}, {"everything": True}], ids=str)
def test_a_forget_reaches_the_view_and_leaves_the_other_person_as_they_were(case, vault, wish):
    ids = fill(vault)
    before, view = answers(vault, "otto"), case.of(vault)
    receipt = vault.memory.forget("nell", **wish)
    assert receipt.verify()
    assert not view.holds_any(vault.users.find("nell"), ids["nell"])
    assert "parrot" not in " ".join(answers(vault, "nell"))
    assert answers(vault, "otto") == before


def test_nothing_forgotten_comes_back_when_the_vault_is_opened_again(case, vault):
    ids = fill(vault)["nell"]
    case.of(vault)
    vault.memory.forget("nell", about="parrots safe")
    vault.close()
    with case.open(vault.folder) as again:
        assert not case.of(again).holds_any(again.users.find("nell"), ids)
        assert [finding.ok for finding in again.doctor() if finding.name == "forgotten"] == [True]
