"""What requests are made of, right and wrong: texts without any logic."""

# A table fills its lines: a reader looks for a piece, not at one.
# fmt: off

METHODS = (*("GET",) * 6, "HEAD", "OPTIONS", "DELETE", "POST", "PUT", "PATCH", "M-SEARCH", "get", "X!")
QUERIES = ("", "", "?a=b", "?a=%20b&c", "?", "?a=b?c/../d", "?[x]={y}|`^")
HOSTS = (
    "shop.example", "SHOP.example.", "127.0.0.1:8080", "[::1]", "[0:0::1]:443", "a_b.example", "xn--e1afmkfd.example",
)
FIELDS = (
    "Accept: */*", "User-Agent: x/1 (y; z)", "Cookie: a=b; c=d", "X-Empty:", "X-Tab:\tb\t", "X-Spaces:   a  b   ",
    "X_Under: score", "X-Text: \xe9\xff\x80", 'X-Quoted: "a, b"', "Connection: keep-alive", "Connection: X-Drop",
    "X-Drop: 1", "Keep-Alive: timeout=5", "Proxy-Connection: close", "X-Forwarded-For: 6.6.6.6", "Via: 1.0 x",
    "TE: trailers", "Trailer: X-Sum", "Upgrade: websocket", "Connection: upgrade, x", "Authorization: Basic eDp5",
    "X-Long: " + "y" * 900, "X-Content-Length: 5", "Content-Length-X: 7", "X-Transfer-Encoding: chunked",
    "Content-Type: text/plain", "!#$%&'*+.^`|~: t",
)
BODIES = (
    b"", b"x", b"hello", b"0\r\n\r\n", b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n\r\n", bytes(range(256)),
    b"z" * 3000,
)
TRAILERS = (
    "", "", "", "X-Sum: 1\r\n", "X-Sum:  a b \r\nX-Other: c\r\n", "Content-Length: 9\r\nHost: b\r\n",
    "Transfer-Encoding: x\r\n",
)
EXTENSIONS = ("", "", "", ";a", ";a=b", ';a="b;c"', ";a;b=c")
LENGTHS = (
    "+5", "-1", "-0", "0x5", "1_0", "5 5", "5;", "5, 5", "5,6", "", "\x0b5", "5\x85", "99999999999999999999", "9" * 19,
)
CODINGS = (
    "xchunked", "identity", "", "chunked, gzip", "gzip, chunked", "chunked, chunked", ",chunked", "chunked,",
    "chunked;q=1", "\x0bchunked", "chunked\x85", "\xa0chunked", '"chunked"', "chunk", "CHUNKED", "chunked\t",
)
SIZES = (
    "0x5", "+5", "-5", "5_0", " 5", "5 ", "", "g", "5;", "5; x", "5\t", "05", "0005", "00000000000000005",
    "FFFFFFFFFFFFFFFF1", "8000000000000000", "5;x\ny", "5;x\ry", "5\r\r;a", "5;\x00x", '5;e="v\r\nX', "5;" + "x" * 300,
    "4", "6", "5;a=\xe9",
)
TARGETS = (
    "//a///b//", "/a/./b/../c", "/../a", "/a/%2e%2e/b", "/%61dmin", "/a%2fb", "/x/..%2fadmin", "/a%00", "/a%5c",
    "/a\\b", "/%c0%ae", "/x/..;/admin", "/x/..%3b/y", "/a#b", '/a"', "/\xe9", "/a%", "/a%zz", "/a%0d%0aX:y", "/a;v=1",
    "*", "", "a", "?x", "/a?b#c", "http://shop.example/x", "http://other/x", "https://shop.example/",
    "HTTP://SHOP.EXAMPLE", "shop.example:80", "/a b", "/a\tb", "/%e2%82%ac", "/%E0%80%AF", "/a%252fb", "/.%2e/x",
    "/" + "l" * 1500,
)
WRONG_HOSTS = (
    "", "a, b", "a/x", "u@a", "a b", "a#f", "a:99999", "a:", "[::1", "a\x00.b", "a..", ".a", "a..b", "%61",
    "é".encode().decode("latin-1"),
)
VERSIONS = (
    "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/9.9", "HTTP/1.01", "http/1.1", "HTTP/1", "", "HTTP/1.1 ", " HTTP/1.1",
)
LINES = (
    "NoColon", ": v", ":", "X@Y: 1", "X\x85: 1", "X : b", " X: b", "X: a\r\n b", "X: a\rb", "X: a\nb", "X: \x00",
    "X: \x01", "X: \x7f", "\tX: b", "X: a\r\n\tb", "Content_Length: 5", "Transfer_Encoding: chunked",
    "Expect: 100-continue", "Expect: x", "X\xe9: 1", " ", "Host: other", "Content-Length: 5", "Content-Length: 0",
    "Transfer-Encoding: chunked", "content-length : 5", "\x00: b", "X: a\x0bb", "Connection: close",
    "Connection: Content-Length", "Connection: Transfer-Encoding", "Connection: Host", "Connection: te, close",
    "Connection: Authorization, Cookie",
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk", "Connection: ,,x,",
    "Transfer-Encoding:\r\n chunked", "Transfer-Encoding:chunked", "Content-Length:5", "X: " + "v" * 9000,
)
