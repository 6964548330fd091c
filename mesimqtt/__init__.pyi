from mesimqtt.embed import App as App
from mesimqtt.hooks import CONSUMED as CONSUMED
from mesimqtt.hooks import FAIL as FAIL
from mesimqtt.hooks import PASS as PASS

__version__: str
