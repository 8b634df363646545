"""One JSON request over HTTP, with the faults of all providers."""

import weakref
from typing import Any

import httpx

from resources.providers.faults import Fault, ProviderFault, fault_of_status


class JsonClient:
    """Posts JSON to one address.

    Args:
        address: of the server, without the path.
        token: sent as `Authorization: Bearer`; None: nothing is sent.
    """

    def __init__(self, address: str, token: str | None) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # No redirect is followed: a text goes where the operator said, and nowhere else.
        self._client = httpx.Client(base_url=address.rstrip("/"), headers=headers, follow_redirects=False)
        weakref.finalize(self, self._client.close)  # nobody closes a provider; its connections go with it

    def post(self, path: str, body: object, timeout_seconds: float) -> Any:
        """The JSON of the answer.

        Raises:
            ProviderFault: there was none.
        """
        fault: ProviderFault
        try:
            answer = self._client.post(path, json=body, timeout=timeout_seconds)
            if answer.is_success:
                return answer.json()
            fault = fault_of_status(answer.status_code, answer.headers)
        except httpx.TimeoutException:
            fault = ProviderFault(Fault.TIMEOUT, f"no answer within {timeout_seconds:.3g} s")
        except httpx.TransportError:
            fault = ProviderFault(Fault.SERVER, "no connection")
        except (httpx.HTTPError, ValueError):
            fault = ProviderFault(Fault.NOT_THE_PROTOCOL, "its answer is no JSON")
        raise fault  # outside the blocks above: their errors can hold the text that was sent
