"""Files that are downloaded by their URLs."""

import functools
from typing import Any, Optional

from regattn_allennlp.compatibility.mend import mend


@mend(
    "cached_path.schemes.http",
    puts_back="A file is downloaded again when it has changed, also from a server that gives no ETag",
    versions="cached-path>=1.8",
    test="tests/compatibility/downloads_test.py::test_what_has_changed_is_fetched_again",
)
def tell_versions_without_etag(http: Any) -> None:
    get_etag = http.HttpClient.get_etag

    @functools.wraps(get_etag)
    def get_etag_or_what_tells_versions(self: Any) -> Optional[str]:
        headers = self.head_response.headers
        told = (headers.get(name) for name in ("Last-Modified", "Content-Length"))
        return get_etag(self) or "; ".join(filter(None, told)) or None

    http.HttpClient.get_etag = get_etag_or_what_tells_versions
