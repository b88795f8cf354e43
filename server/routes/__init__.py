"""The REST surface: which address leads where."""

from starlette.routing import BaseRoute

from server.routes.conversations import ConversationRoutes
from server.routes.events import EventRoutes
from server.routes.health import HealthRoutes
from server.routes.matching import NothingHere, PageRoute, resource
from server.routes.options import OptionRoutes
from server.routes.pages import PageRoutes
from server.routes.secrets import SecretsRoutes
from server.routes.services import Services
from server.routes.settings import SettingsRoutes
from server.routes.trajectory import TrajectoryRoutes
from server.routes.uploads import UploadRoutes
from server.routes.workspace import WorkspaceRoutes


def routes(services: Services) -> list[BaseRoute]:
    """Every address, in the order of matching."""
    health = HealthRoutes(services)
    options = OptionRoutes(services)
    settings = SettingsRoutes(services)
    secrets = SecretsRoutes(services)
    conversations = ConversationRoutes(services)
    events = EventRoutes(services)
    trajectory = TrajectoryRoutes(services)
    workspace = WorkspaceRoutes(services)
    uploads = UploadRoutes(services)
    one = "/api/conversations/{conversation_id}"
    table: list[BaseRoute] = [
        resource("/alive", GET=health.alive),
        resource("/health", GET=health.health),
        resource("/ready", GET=health.ready),
        resource("/server_info", GET=health.server_info),
        resource("/api/options/config", GET=options.config),
        resource("/api/options/models", GET=options.models),
        resource("/api/options/agents", GET=options.agents),
        resource("/api/options/security-analyzers", GET=options.security_analyzers),
        resource("/api/settings", GET=settings.read, POST=settings.store),
        resource("/api/reset-settings", POST=settings.reset),
        resource("/api/secrets", GET=secrets.search, POST=secrets.create),
        resource("/api/secrets/{name}", PUT=secrets.change, DELETE=secrets.delete),
        resource("/api/add-git-providers", POST=secrets.add_providers),
        resource("/api/unset-provider-tokens", POST=secrets.unset_providers),
        resource("/api/conversations", GET=conversations.search, POST=conversations.create),
        resource(
            one,
            GET=conversations.show,
            PATCH=conversations.rename,
            DELETE=conversations.delete,
        ),
        resource(f"{one}/start", POST=conversations.start),
        resource(f"{one}/stop", POST=conversations.stop),
        resource(f"{one}/events", GET=events.search, POST=events.append),
        resource(f"{one}/message", POST=events.say),
        resource(f"{one}/trajectory", GET=trajectory.export),
        resource(f"{one}/config", GET=workspace.config),
        resource(f"{one}/vscode-url", GET=workspace.vscode_url),
        resource(f"{one}/web-hosts", GET=workspace.web_hosts),
        resource(f"{one}/git/changes", GET=workspace.git_changes),
        resource(f"{one}/upload-files", POST=uploads.upload),
    ]
    if services.config.serve_frontend:
        table.append(PageRoute("/{path:path}", PageRoutes(services.config).serve))
    return [*table, NothingHere()]
