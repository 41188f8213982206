// The proxy's own process, which `fault-proxy.ts` starts and talks to.
import { FaultyConnection } from "./faulty-connection.ts";
import type { Plan, ProxyAnswer, ProxyRequest } from "./fault-plan.ts";

interface Route {
  readonly listener: Bun.TCPSocketListener<FaultyConnection>;
  readonly connections: FaultyConnection[];
  next: Plan[];
  later: Plan;
}

const routes: Route[] = [];

function openRoute(host: string, port: number): { route: number; port: number } {
  const connections: FaultyConnection[] = [];
  const route: Route = {
    connections,
    next: [],
    later: [],
    listener: Bun.listen<FaultyConnection>({
      hostname: "127.0.0.1",
      port: 0,
      allowHalfOpen: true,
      socket: {
        open: (socket) => {
          const connection = new FaultyConnection(route.next.shift() ?? route.later, socket);
          socket.data = connection;
          connections.push(connection);
          connection.connect(host, port);
        },
        data: ({ data }, bytes) => data.fromReplica.push(bytes),
        drain: ({ data }) => data.fromPrimary.drain(),
        end: ({ data }) => data.fromReplica.end(),
        close: ({ data }) => data.fromReplica.closed(),
        error: () => undefined,
      },
    }),
  };
  routes.push(route);
  return { route: routes.length - 1, port: route.listener.port };
}

function routeOf(index: number): Route {
  const route = routes[index];
  if (route === undefined) throw new Error(`there is no route ${index}`);
  return route;
}

function answer(request: ProxyRequest): ProxyAnswer {
  const { id } = request;
  switch (request.ask) {
    case "route":
      return { id, ...openRoute(request.host, request.port) };
    case "plan": {
      const route = routeOf(request.route);
      route.next = [...request.next];
      route.later = request.later;
      return { id, done: true };
    }
    case "inject":
      for (const connection of routeOf(request.route).connections) {
        connection.inject(request);
      }
      return { id, done: true };
    case "count": {
      const { connections, next } = routeOf(request.route);
      const passed = connections.map((connection) => connection.passed);
      return { id, count: { connections: connections.length, waiting: next.length, passed } };
    }
    case "close": {
      const { connections, listener } = routeOf(request.route);
      listener.stop();
      for (const connection of connections) connection.reset();
      return { id, done: true };
    }
    default:
      throw new Error(`unknown request: ${JSON.stringify(request satisfies never)}`);
  }
}

process.on("message", (request: ProxyRequest) => {
  try {
    process.send?.(answer(request));
  } catch (error) {
    process.send?.({ id: request.id, error: String(error) });
  }
});
process.on("disconnect", () => process.exit());
