from regattn_allennlp.server.application import create_application
from regattn_allennlp.server.loaded_models import LoadedModels
from regattn_allennlp.server.serving import is_loopback, open_socket, serve

__all__ = ["LoadedModels", "create_application", "is_loopback", "open_socket", "serve"]
