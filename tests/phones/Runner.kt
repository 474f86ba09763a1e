import example.uploads.BrokerUploads
import example.uploads.Refused
import java.io.File
import java.io.IOException
import kotlin.system.exitProcess

/** Commands on the uploads of a folder: FOLDER PREFIX TOKEN RETRY_MILLIS COMMAND, which is `add VIDEO TYPE` or one word. */
fun main(arguments: Array<String>) {
    val (folder, prefix, token, retryMillis, command) = arguments
    val uploads = BrokerUploads(File(folder), prefix, retryMillis.toLong()) { token }
    try {
        when (command) {
            "add" -> println(uploads.add(File(arguments[5]), arguments[6]))
            "run" -> for (id in uploads.unfinished()) run(uploads, id)
            "work" -> println(work(File(folder), prefix, token))
            "cancel" -> uploads.unfinished().forEach(uploads::cancel)
            "cancel-during-parts" -> for (id in uploads.unfinished()) uploads.run(id) { _, _ -> uploads.cancel(id) }
            "cancel-during-issue" -> for (id in uploads.unfinished()) {
                var tokens = 0 // the first one is for the request that issues the upload
                run(BrokerUploads(File(folder), prefix) { token.also { if (tokens++ == 0) uploads.cancel(id) } }, id)
            }
        }
    } catch (error: IOException) {
        println("later: ${error.message}")
        exitProcess(75)
    } catch (error: Refused) {
        println("refused: ${error.message}")
        exitProcess(1)
    }
}

private fun run(uploads: BrokerUploads, id: String) = println(uploads.run(id) { arrived, all -> println("$arrived of $all") })

/** Run the guide's worker, and return its result. */
private fun work(folder: File, prefix: String, token: String): String {
    session = Session(prefix, token)
    return UploadWorker(Context(folder.parentFile), WorkerParameters()).doWork().name
}
