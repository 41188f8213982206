"""Runs all of OpenStack Swift in one process: proxy with s3api and tempauth, account, container and object server.

    python3 swift-server.py FOLDER PORT KEY NAMES

FOLDER holds everything it writes, PORT is the proxy's on 127.0.0.1, KEY is the secret of the access key "test:tester", and a
list shows NAMES names a page.
Each of Swift's own programs is a process that takes a second to start and 70 MB; they share most of both here.
"""

import os
import sys

FOLDER, PORT, KEY, NAMES = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
os.environ["TZ"] = "UTC+0"

from swift.common.utils import monkey_patch  # noqa: E402

monkey_patch()

import eventlet  # noqa: E402
from eventlet import wsgi  # noqa: E402
from swift.common import constraints, utils  # noqa: E402
from swift.common.http_protocol import SwiftHttpProtocol  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.storage_policy import reload_storage_policies  # noqa: E402
from swift.common.wsgi import loadapp  # noqa: E402

PROXY = """
[pipeline:main]
pipeline = catch_errors gatekeeper listing_formats s3api tempauth slo proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true

[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = %s .admin

[filter:s3api]
use = egg:swift#s3api
allow_multipart_uploads = false
max_bucket_listing = %s

[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:slo]
use = egg:swift#slo
"""

STORAGE = """
[app:main]
use = egg:swift#%s
"""


class Silent:
    def write(self, *args):
        pass


def written(name, text):
    path = os.path.join(FOLDER, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def main():
    written("swift.conf", "[swift-hash]\nswift_hash_path_suffix = test\n")
    utils.set_swift_dir(FOLDER)
    constraints.reload_constraints()
    reload_storage_policies()
    os.makedirs(os.path.join(FOLDER, "devices", "one"))
    common = "[DEFAULT]\nswift_dir = %s\ndevices = %s/devices\nmount_check = false\n" % (FOLDER, FOLDER)
    common += "disable_fallocate = true\nlog_address = %s/no-log\n" % FOLDER
    servers = []
    for kind in ["account", "container", "object"]:
        sock = eventlet.listen(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        builder = RingBuilder(2, 1, 0)
        builder.add_dev(
            dict(id=0, region=1, zone=1, weight=1, ip="127.0.0.1", port=port, device="one",
                 replication_ip="127.0.0.1", replication_port=port, meta=""))
        builder.rebalance()
        builder.get_ring().save(os.path.join(FOLDER, "%s.ring.gz" % kind))
        servers.append((kind, sock, STORAGE % kind))
    servers.append(("proxy", eventlet.listen(("127.0.0.1", PORT)), PROXY % (KEY, NAMES)))
    threads = []
    for name, sock, text in servers:
        app = loadapp(written("%s.conf" % name, common + text), global_conf={"log_name": name})
        threads.append(eventlet.spawn(
            wsgi.server, sock, app, Silent(), protocol=SwiftHttpProtocol, debug=False,
            capitalize_response_headers=False, url_length_limit=constraints.MAX_REQUEST_LINE))
    for thread in threads:
        thread.wait()


main()
