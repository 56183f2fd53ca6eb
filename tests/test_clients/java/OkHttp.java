import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import okhttp3.MediaType;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.RequestBody;
import okhttp3.Response;
import okio.BufferedSource;

/** Asks the service with OkHttp, and reads its events from the bare stream. */
final class OkHttp {
    private static final OkHttpClient CLIENT = new OkHttpClient();
    private static final MediaType JSON = MediaType.get("application/json");
    private static final String COMPLETIONS = "/v1/chat/completions";

    public static void main(String[] arguments) throws IOException {
        Map<String, String> found = new LinkedHashMap<>();
        found.put("whole", answer(Asking.body("SAY")));
        found.put("streamed", Asking.list(events("SAY")));
        found.put("called", answer(Asking.withTools("CALL")));
        found.put("broken", Asking.list(events("BREAKING")));
        found.put("errors", errors());
        leave();
        System.out.write(Asking.object(found).getBytes(StandardCharsets.UTF_8));
        System.out.flush();
        // Its threads would wait for more for a minute.
        System.exit(0);
    }

    private static Response ask(String path, String key, String body) throws IOException {
        Request request = new Request.Builder()
                .url(Asking.URL + path)
                .header("Authorization", "Bearer " + key)
                .post(RequestBody.create(JSON, body))
                .build();
        return CLIENT.newCall(request).execute();
    }

    private static String answer(String body) throws IOException {
        try (Response response = ask(COMPLETIONS, Asking.KEY, body)) {
            return response.body().string();
        }
    }

    private static List<String> events(String prompt) throws IOException {
        List<String> found = new ArrayList<>();
        try (Response response = ask(COMPLETIONS, Asking.KEY, Asking.streamed(prompt))) {
            BufferedSource source = response.body().source();
            for (String line = source.readUtf8Line(); line != null; line = source.readUtf8Line()) {
                String data = Asking.data(line);
                if (data != null) found.add(data);
            }
        }
        return found;
    }

    private static String errors() throws IOException {
        Map<String, String> found = new LinkedHashMap<>();
        String other = Asking.body("SAY").replace(Asking.quoted(System.getenv("MODEL")), "\"gpt-4\"");
        refusal(found, COMPLETIONS, Asking.KEY, Asking.body("SAY", "\"temperature\": 3"));
        refusal(found, COMPLETIONS, "sk-nonsense", Asking.body("SAY"));
        refusal(found, COMPLETIONS, System.getenv("POWERLESS_KEY"), Asking.body("SAY"));
        refusal(found, COMPLETIONS, Asking.KEY, other);
        refusal(found, "/chat/new/message/", Asking.KEY, Asking.locked());
        refusal(found, COMPLETIONS, System.getenv("USED_UP_KEY"), Asking.body("SAY"));
        refusal(found, COMPLETIONS, Asking.KEY, Asking.body("BREAKING"));
        return Asking.object(found);
    }

    private static void refusal(Map<String, String> found, String path, String key, String body) throws IOException {
        try (Response response = ask(path, key, body)) {
            String more = ", \"retry_after\": " + Asking.quoted(response.header("Retry-After", "never")) + "}";
            found.put(String.valueOf(response.code()), response.body().string().replaceAll("}$", more));
        }
    }

    private static void leave() throws IOException {
        try (Response response = ask(COMPLETIONS, Asking.KEY, Asking.streamed("LONG"))) {
            BufferedSource source = response.body().source();
            while (!source.readUtf8LineStrict().contains("\"content\":\"a\"")) {}
        }
    }
}
