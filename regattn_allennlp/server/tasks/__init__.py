from regattn_allennlp.server.tasks.entailment import EntailmentTask
from regattn_allennlp.server.tasks.sequence_pairs import SequencePairsTask
from regattn_allennlp.server.tasks.task import RequestError, Task
from regattn_allennlp.server.tasks.vqa import VqaTask

TASKS: dict[str, type[Task]] = {task.name: task for task in (EntailmentTask, SequencePairsTask, VqaTask)}

__all__ = ["TASKS", "EntailmentTask", "RequestError", "SequencePairsTask", "Task", "VqaTask"]
