"""Drives a hub with a generated client: drive.py FOLDER URL TOKEN"""

import sys

folder, url, token = sys.argv[1:]
sys.path.insert(0, folder)

from rookery_api import AuthenticatedClient  # noqa: E402
from rookery_api.api.operations import get_operation  # noqa: E402
from rookery_api.api.projects import (  # noqa: E402
    create_project,
    delete_project,
    list_projects,
    start_project,
)
from rookery_api.models import (  # noqa: E402
    CreateProjectBody,
    CreateProjectResponse202,
    DeleteProjectForce,
    Operation,
    Problem,
    Started,
)

client = AuthenticatedClient(base_url=url, token=token)


def typed(answer, kind):
    """What the generator says that it is; None is an answer that it did not type."""
    assert isinstance(answer, kind), answer
    return answer


def ended(operation):
    while typed(operation, Operation).ended_at is None:
        operation = get_operation.sync(operation.id, client=client)
    return f"{operation.kind} {operation.state}"


made = typed(
    create_project.sync(client=client, body=CreateProjectBody(name="from Python")),
    CreateProjectResponse202,
)
project = made.project
print(project.name)
print(ended(made.operation))
print(ended(typed(start_project.sync(project.id, client=client), Started).operation))
problem = typed(delete_project.sync(project.id, client=client), Problem)
print(problem.status, problem.code)
deleted = delete_project.sync(project.id, client=client, force=DeleteProjectForce.TRUE)
print(ended(typed(deleted, Started).operation))
print(len(list_projects.sync(client=client).items))
