"""The whole product: installed command, real clients and servers, load, reload, logs, examples."""
