import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Leaves a turn's stream after every few events, and comes back with the id of the last one, until there is no more. */
final class Resuming {
    private static final int EVENTS = 3;

    /** What reads a stream's lines; false once it has had enough. */
    interface Lines {
        boolean take(String line);
    }

    /** What connects, and passes lines on until they are not wanted any more; the answer's status. */
    interface Client {
        int connect(String url, String lastEventId, Lines lines) throws IOException;
    }

    private static String id;
    private static String lastEventId;
    private static int taken;

    private Resuming() {}

    static void listen(Client client) throws IOException {
        List<String> data = new ArrayList<>();
        int connections = 0;
        int status;
        do {
            taken = 0;
            status = client.connect(Asking.URL + System.getenv("STREAM_URL"), lastEventId, line -> {
                if (line.startsWith("id: ")) id = line.substring("id: ".length());
                if (Asking.data(line) != null) {
                    data.add(Asking.data(line));
                    lastEventId = id;
                    taken++;
                }
                return taken < EVENTS;
            });
            connections++;
        } while (status == 200);
        Map<String, String> found = new LinkedHashMap<>();
        found.put("data", Asking.list(data));
        found.put("connections", String.valueOf(connections));
        found.put("status", String.valueOf(status));
        System.out.write(Asking.object(found).getBytes(StandardCharsets.UTF_8));
        System.out.flush();
    }
}
