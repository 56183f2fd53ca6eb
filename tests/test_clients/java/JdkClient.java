import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** Asks the service with the JDK's own client, as it comes: it offers HTTP/2 with its first request. */
final class JdkClient {
    private static final HttpClient CLIENT = HttpClient.newHttpClient();

    public static void main(String[] arguments) throws Exception {
        Map<String, String> found = new LinkedHashMap<>();
        found.put("whole", ask(Asking.body("SAY")).body());
        found.put("streamed", Asking.list(events("SAY")));
        found.put("called", ask(Asking.withTools("CALL")).body());
        found.put("broken", Asking.list(events("BREAKING")));
        found.put("errors", errors());
        leave();
        System.out.write(Asking.object(found).getBytes(StandardCharsets.UTF_8));
        System.out.flush();
    }

    private static HttpRequest request(String path, String key, String body) {
        return HttpRequest.newBuilder(URI.create(Asking.URL + path))
                .header("Authorization", "Bearer " + key)
                .header("Content-Type", "application/json")
                .POST(BodyPublishers.ofString(body))
                .build();
    }

    private static HttpResponse<String> ask(String body) throws IOException, InterruptedException {
        return CLIENT.send(request("/v1/chat/completions", Asking.KEY, body), BodyHandlers.ofString());
    }

    private static HttpResponse<Stream<String>> listen(String prompt) throws IOException, InterruptedException {
        String body = Asking.streamed(prompt);
        return CLIENT.send(request("/v1/chat/completions", Asking.KEY, body), BodyHandlers.ofLines());
    }

    private static List<String> events(String prompt) throws IOException, InterruptedException {
        try (Stream<String> lines = listen(prompt).body()) {
            return lines.map(Asking::data).filter(data -> data != null).toList();
        }
    }

    private static String errors() throws IOException, InterruptedException {
        Map<String, String> found = new LinkedHashMap<>();
        String completions = "/v1/chat/completions";
        String other = Asking.body("SAY").replace(Asking.quoted(System.getenv("MODEL")), "\"gpt-4\"");
        refusal(found, completions, Asking.KEY, Asking.body("SAY", "\"temperature\": 3"));
        refusal(found, completions, "sk-nonsense", Asking.body("SAY"));
        refusal(found, completions, System.getenv("POWERLESS_KEY"), Asking.body("SAY"));
        refusal(found, completions, Asking.KEY, other);
        refusal(found, "/chat/new/message/", Asking.KEY, Asking.locked());
        refusal(found, completions, System.getenv("USED_UP_KEY"), Asking.body("SAY"));
        refusal(found, completions, Asking.KEY, Asking.body("BREAKING"));
        return Asking.object(found);
    }

    private static void refusal(Map<String, String> found, String path, String key, String body)
            throws IOException, InterruptedException {
        HttpResponse<String> response = CLIENT.send(request(path, key, body), BodyHandlers.ofString());
        String retryAfter = response.headers().firstValue("Retry-After").orElse("never");
        String more = ", \"retry_after\": " + Asking.quoted(retryAfter) + "}";
        found.put(String.valueOf(response.statusCode()), response.body().replaceAll("}$", more));
    }

    private static void leave() throws IOException, InterruptedException {
        try (Stream<String> lines = listen("LONG").body()) {
            lines.filter(line -> line.contains("\"content\":\"a\"")).findFirst().orElseThrow();
        }
    }
}
