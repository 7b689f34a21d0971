from .errors import TicketError as TicketError
from .kernels import StoredKernel as StoredKernel
from .loading import load_ticket as load_ticket
from .reading import Ticket as Ticket
from .reading import read_ticket as read_ticket
from .saving import save_ticket as save_ticket
