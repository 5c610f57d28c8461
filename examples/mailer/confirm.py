"""Have an order confirmed, as a shop's checkout does: python confirm.py ORDER ADDRESS"""

import sys

from tasks import confirm

order, address = int(sys.argv[1]), sys.argv[2]
handle = confirm.options(idempotency_key=f"order {order}").enqueue_sync(address, order)
print(handle.id, "is on its way already" if handle.duplicate else "will be sent")
