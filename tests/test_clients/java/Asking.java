import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** What is asked, as JSON; and what was found, as JSON. Without a library: the JDK has none for JSON. */
final class Asking {
    static final String URL = System.getenv("SERVICE_URL");
    static final String KEY = System.getenv("KEY");

    private static final String TOOLS =
            "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"get_weather\"}}]";

    private Asking() {}

    /** A request to answer this variable's prompt; `more` are further fields. */
    static String body(String prompt, String... more) {
        String message = "{\"role\": \"user\", \"content\": " + quoted(System.getenv(prompt)) + "}";
        String fields = "\"model\": " + quoted(System.getenv("MODEL")) + ", \"messages\": [" + message + "]";
        return "{" + String.join(", ", fields, String.join(", ", more)).replaceAll(", $", "") + "}";
    }

    static String streamed(String prompt) {
        return body(prompt, "\"stream\": true");
    }

    static String withTools(String prompt) {
        return body(prompt, TOOLS);
    }

    static String locked() {
        return "{\"prompt\": \"hi\", \"conversation_id\": " + quoted(System.getenv("CONVERSATION")) + "}";
    }

    /** The data of an event, or null of another line. */
    static String data(String line) {
        return line.startsWith("data: ") ? line.substring("data: ".length()) : null;
    }

    /** JSON of values that are JSON already. */
    static String object(Map<String, String> fields) {
        List<String> written = new ArrayList<>();
        fields.forEach((name, value) -> written.add(quoted(name) + ": " + value));
        return "{" + String.join(", ", written) + "}";
    }

    /** A list of events' data; what is no JSON, as the end is, becomes a string. */
    static String list(List<String> events) {
        return "[" + String.join(", ", events.stream().map(one -> one.startsWith("{") ? one : quoted(one)).toList()) + "]";
    }

    static String quoted(String text) {
        return "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n") + "\"";
    }
}
