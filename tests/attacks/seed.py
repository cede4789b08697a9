"""Fills the attacked site's database: `python -m tests.attacks.seed FILE`.

The world of the permission table, under the production settings of the site that is attacked,
with a session or a token for each of its actors. FILE gets all of it as JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

import django

PASSWORD = "correct horse battery"


def put_account(world: Any, place: str, user: Any) -> None:
    """Add a session of the user's at another browser."""
    from allauth.usersessions.models import UserSession

    session = UserSession.objects.create(
        user=user, ip="192.0.2.1", user_agent=f"Browser-{place}", session_key=f"none-{place}"
    )
    world.ids.setdefault("session", {})[place] = session.pk
    world.markers.setdefault(place, set()).add(f"Browser-{place}")


def main(file: Path) -> None:
    """Make the world and write down what an attack needs of it."""
    from django.conf import settings
    from django.utils import timezone

    from cases.models import ApiToken, SavedView
    from cases.row_scope import process_acts_for_system
    from cases.services.tokens import token_create
    from retrieval.models import SavedSearch, SearchQuery
    from tests.permissions.pixels import put_studies
    from tests.permissions.world import PLACES, make_world

    process_acts_for_system()
    world = make_world()
    put_studies(world)
    for place in PLACES:
        asker = world.askers[place]
        if place != "shared":  # the owner of "private" and "shared" is the same
            view = SavedView.objects.create(user=asker, name=f"View-{place}", query="organ=Lung")
            world.put("view", place, view, view.name)
            search = SavedSearch.objects.create(
                user=asker,
                name=f"Saved-{place}",
                query=SearchQuery.objects.get(pk=world.ids["search"][place]),
                checked_at=timezone.now(),
            )
            world.put("saved_search", place, search, search.name)
            put_account(world, place, asker)
    actors = []
    for actor in world.actors:
        if actor.token_lacks_scope:
            kept = {ApiToken.Scope.INDEX_READ.value}  # a token has one scope at least
            client = world.client(actor, frozenset(ApiToken.Scope.values) - kept)
        else:
            client = world.client(actor, frozenset())
        cookie = client.cookies.get(settings.SESSION_COOKIE_NAME)
        actors.append(
            {
                "name": actor.name,
                "letter": actor.letter,
                "places": sorted(actor.places),
                "username": actor.user.username if actor.user else "",
                "by_token": actor.by_token,
                "token_lacks_scope": actor.token_lacks_scope,
                "session": cookie.value if cookie else "",
                "authorization": client.defaults.get("HTTP_AUTHORIZATION", ""),
            }
        )
    owner = next(actor.user for actor in world.actors if actor.name == "pathologist")
    tokens = {
        scope: token_create(user=owner, name=scope, scopes=[scope])[1]
        for scope in ApiToken.Scope.values
    }
    file.write_text(
        json.dumps(
            {
                "ids": world.ids,
                "markers": {place: sorted(texts) for place, texts in world.markers.items()},
                "actors": actors,
                "tokens": tokens,
            },
            default=str,
        ),
        encoding="utf-8",
    )


if __name__ == "__main__":
    django.setup()
    main(Path(sys.argv[1]))
