"""Confirmations by e-mail: one for each order, no faster than the mail server's owner allows."""

import os
import smtplib
from email.message import EmailMessage

from stoker import Context, Dead, Retry, Stoker

SERVER, _, PORT = os.environ.get("SMTP_SERVER", "localhost:8025").partition(":")

app = Stoker("mailer")


@app.task(queue="mails", timeout=60, retry=Retry(max_retries=8, initial_delay=1, multiplier=3, max_delay=3600))
def confirm(ctx: Context, to: str, order: int) -> str:
    """Send it. A plain function: smtplib waits in a thread of the worker."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "shop@example.org", to, f"Your order {order}"
    # The same in every attempt: should the answer of one be lost, the recipient's server can tell that it has this mail.
    mail["Message-ID"] = f"<{ctx.id}@shop.example.org>"
    mail.set_content(f"Order {order} is on its way.")
    try:
        with smtplib.SMTP(SERVER, int(PORT or 25), timeout=20) as server:
            server.send_message(mail)
    except smtplib.SMTPRecipientsRefused as refused:
        [(code, reason)] = refused.recipients.values()
        raise verdict(code, reason) from refused
    except smtplib.SMTPResponseException as refused:
        raise verdict(refused.smtp_code, refused.smtp_error) from refused
    return str(mail["Message-ID"])


def verdict(code: int, reason: bytes | str) -> Exception:
    """What a refusal means: 5xx is for good; with 4xx, or no answer at all, another attempt may do."""
    words = f"{code} {reason.decode(errors='replace') if isinstance(reason, bytes) else reason}"
    return Dead(words) if code >= 500 else ConnectionError(words)
